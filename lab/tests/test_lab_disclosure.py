"""What is told with every figure stays told."""

import unittest

from omni_lab.bench.disclosure import joined


class Joined(unittest.TestCase):
    """Several looks at one lab."""

    def test_the_machine_is_that_of_the_beginning_and_nobody_is_forgotten(self) -> None:
        first = {"machine": {"load": "0.1"}, "contestants": {"vxlan": {"mtu": 1450}}, "seed": 1}
        later = {"machine": {"load": "9.9"}, "contestants": {"fastd": {"mtu": 1420}}, "seed": 2}
        told = joined(first, later)
        self.assertEqual(told["machine"], {"load": "0.1"})
        self.assertEqual(told["contestants"], {"vxlan": {"mtu": 1450}, "fastd": {"mtu": 1420}})
        self.assertEqual(told["seed"], 2)
        self.assertEqual(joined({}, later), later)


if __name__ == "__main__":
    unittest.main()
