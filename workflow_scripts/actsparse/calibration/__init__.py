"""What calibration text gives to methods: statistics, thresholds, training. Imports methods and below."""
