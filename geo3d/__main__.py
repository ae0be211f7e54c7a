"""``python -m geo3d`` is the command ``geo3d``."""

from geo3d.cli.__main__ import main

raise SystemExit(main())
