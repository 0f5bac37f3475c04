"""What every job needs: files, logs, devices, leases, provenance. Imports no other room."""
