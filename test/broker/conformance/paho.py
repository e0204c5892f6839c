"""Runs one test of a Paho interoperability script, which is read where it lies: python3 paho.py SCRIPT PORT TEST.

The script's own start sets its topics, host and port from its options and then calls unittest, which would take these
options for its own; so that one call is ours.
"""
import os
import runpy
import sys
import unittest

script, port, test = sys.argv[1:]
sys.argv = [script, '--hostname=127.0.0.1', '--port=' + port]
sys.path.insert(0, os.path.dirname(script))


def main(*_):
    # In a suite, because a test case alone would skip its setUpClass.
    case = sys.modules['__main__'].Test(test)
    result = unittest.TextTestRunner(verbosity=0).run(unittest.TestSuite([case]))
    sys.stdout.flush()
    # Threads of clients that were not disconnected would keep the process.
    os._exit(0 if result.testsRun == 1 and result.wasSuccessful() else 1)


unittest.main = main
runpy.run_path(script, run_name='__main__')
