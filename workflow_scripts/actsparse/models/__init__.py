"""Models: loading, their sites and layers, token windows. Imports resources and jobs."""
