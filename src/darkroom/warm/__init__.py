"""A process that has torch in memory, from which stages are forked: importing torch takes longer than many a stage.

The first stage that needs torch starts it (`command`), or, in a pipeline, one before it, which does not wait. It serves every
workspace of the user that has the same environment (`server`), and it ends after `PATIENCE` seconds without work. It imports
third-party packages alone, so that a stage always runs the code that is on disk. The command itself waits: signals go on to the
stage, and the stage ends when its command does. Only on Linux, where forking is safe at this point. `DARKROOM_WARM` is another
number of seconds, 0 does without, as do a debugger, a profiler and every failure to get there.
"""
