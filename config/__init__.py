"""What an installation may set, where that is read from, and the files that a packager installs
beside the program.
"""
