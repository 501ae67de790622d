"""The Common Expression Language, as far as conditions on JSON need it, with every operation paid for.

A language of our own reading because no library for Python has a limit of cost: a condition of 42 characters keeps each of them,
and with it every thread of the process, busy for seconds (docs/adr/0016). Bottom up: `lex`, `values`, `functions`, `nodes`,
`parser`. Left out is what JSON has no use for: unsigned integers, bytes, messages, optional values, types as values.
Source: CEL language definition, cel-spec `doc/langdef.md`.
"""
