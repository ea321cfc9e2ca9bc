"""What runs did as one HTML file; needs no other file and asks for none.

`report` prints the table and draws the plot that go with it.
"""
