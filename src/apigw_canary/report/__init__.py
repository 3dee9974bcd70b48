"""Shows what was decided, and why.

`explain` and `history` turn a value into a `Document`; a renderer a format turns the document into
text. So no renderer knows what a finding is, and what is explained knows no format. Whatever comes
from outside passes the format's door in `escape`.
"""
