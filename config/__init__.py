"""Read and check the settings of an installation. Files for packagers are in this folder too."""
