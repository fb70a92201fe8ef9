"""The code that more than one chapter needs: what trains is data beside the parameters."""
