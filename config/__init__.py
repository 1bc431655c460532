"""Read and check what an installation may set; holds the files a packager installs, too."""
