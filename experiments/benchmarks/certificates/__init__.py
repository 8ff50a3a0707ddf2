"""False certificates among hostile random problems, checked in extended precision."""
