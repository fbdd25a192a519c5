"""The same loads on Yamabiko and on its peers, side by side: `python -m bench`."""
