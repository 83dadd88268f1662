"""Task families for other libraries, and their agents for this one."""
