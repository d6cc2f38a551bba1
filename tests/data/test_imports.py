import subprocess
import sys


def test_the_data_needs_no_tensorflow_and_loads_little(prepared):
    code = f"""
import sys
from jaxdiff import data
assert not {{'tensorflow_datasets', 'sklearn', 'PIL'}} & set(sys.modules)
data.batches(data.load('digits', data_dir={str(prepared)!r}), 4, 0)[0]
assert 'tensorflow' not in sys.modules and 'sklearn' not in sys.modules
"""
    subprocess.run([sys.executable, '-c', code], check=True)
