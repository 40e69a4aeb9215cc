"""What importing perdure brings into a process."""

import subprocess
import sys


def test_openssl_is_not_loaded_for_those_who_neither_encrypt_nor_back_up() -> None:
    code = "import perdure, sys; sys.exit('_hashlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
