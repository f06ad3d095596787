"""A teacher around another one."""

from ams_common.classes import ClassSet
from ams_server.teachers.base import Teacher


class WrappedTeacher:
    """What is the same about a teacher and one that passes frames on to it; a subclass adds `label`."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    @property
    def classes(self) -> ClassSet:
        """Meaning of the labels."""
        return self._teacher.classes

    @property
    def identity(self) -> str:
        """Identity of the teacher behind this one: the labels are the same."""
        return self._teacher.identity
