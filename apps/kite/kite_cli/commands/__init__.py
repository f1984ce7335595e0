"""The commands of kitectl, a file for each group. They read arguments and print; what they do is elsewhere, imported when it is needed."""
