"""Read and check the settings of an installation; this folder also has files for packagers."""
