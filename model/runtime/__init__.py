"""Runtime: the machine under the program, that is processors, devices and directories.

May import `errors` of `model` alone.
"""
