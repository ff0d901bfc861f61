"""Speed of Eventide beside the published implementation. Nothing in the package needs this folder."""
