"""What runs did as one HTML file; needs no other file and asks for none."""
