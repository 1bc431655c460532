"""Read and check the settings of an installation; beside it lie the files a packager installs."""
