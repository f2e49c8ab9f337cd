"""What every room stands on: errors, files, parameters, processes, precision. Knows nothing of ours."""
