"""Whose fault it is: the rig's, the bundle's or the operator's. Anything else that is raised is our own bug.

Every message says what was found, what was expected, where, and the mend, in one line: it is what the command line
prints and what the service shows.
"""

from __future__ import annotations


class Fault(Exception):
    """Something outside Phosphene is not as it must be. The message is one line, meant for a person."""


class RigFault(Fault):
    """The stream, recording, amplifier or marker is at fault."""


class BundleFault(Fault):
    """The bundle (model directory) is at fault: it is refused, never half used."""


class OperatorFault(Fault):
    """The call is at fault: an option, a path, a setting, a port in use."""
