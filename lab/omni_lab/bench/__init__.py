"""The lab: fabrics of many hosts that stay up between commands, and what is measured on them."""
