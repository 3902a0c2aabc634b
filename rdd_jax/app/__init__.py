"""The program: the command line, configurations, jobs, run folders and reports. Nothing outside imports it."""

__all__ = []
