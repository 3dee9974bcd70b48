"""The safe state changes of a stage.

Each reads the stage first, refuses what would fall into one of AWS's traps, sends one change at a
time, and compares what AWS answers with what was asked. AWS has no conditional write: a race
cannot be excluded, only noticed. A caller's own store with compare-and-set (`RolloutRecords`) is
the one true lock.
"""
