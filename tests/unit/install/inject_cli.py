# SPDX-License-Identifier: Apache-2.0
"""The commands inject and uninject as users call them: files, folders, standard input, options,
exit status, and that nothing is written when anything is wrong.

    inject_cli.py TULLE
"""

import os
import subprocess
import sys
import tempfile
import unittest

TULLE = sys.argv.pop(1)

POD = "kind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: web\n"
ANNOTATED = POD.replace("metadata:\n", "metadata:\n  annotations:\n    linkerd.io/inject: enabled\n")
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


class InjectCli(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", newline="") as f:
            f.write(text)
        return path

    def run_tulle(self, *args, stdin="", status=0, stdout=subprocess.PIPE):
        done = subprocess.run([TULLE, *args], input=stdin.encode(), stdout=stdout, stderr=subprocess.PIPE,
                              timeout=60)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return (done.stdout or b"").decode(), done.stderr.decode()

    def refused(self, *args, status=1, says, stdin=""):
        out, err = self.run_tulle(*args, status=status, stdin=stdin)
        self.assertEqual(out, "")
        self.assertIn(says, err)

    def test_standard_input_there_and_back(self):
        out, err = self.run_tulle("inject", "-", stdin=POD)
        self.assertEqual(out, ANNOTATED)
        self.assertEqual(err, '\npod "web" injected\n\n')
        self.assertEqual(self.run_tulle("inject", "-", stdin=out)[0], out)
        out, err = self.run_tulle("uninject", "-", stdin=out)
        self.assertEqual(out, POD)
        self.assertEqual(err, '\npod "web" uninjected\n\n')

    def test_folder_in_the_order_of_names(self):
        self.write("m/b.yml", POD.replace("web", "b"))
        self.write("m/a.json", '{"kind": "Pod", "metadata": {"name": "a"}}')
        self.write("m/c/d.yaml", POD.replace("web", "d"))
        self.write("m/README.md", "kind: [")
        self.write("m/.hidden.yaml", "kind: [")
        out, err = self.run_tulle("inject", os.path.join(self.folder.name, "m"))
        self.assertEqual(out.count("---\n"), 2)
        self.assertLess(out.index('"a"'), out.index("name: b"))
        self.assertLess(out.index("name: b"), out.index("name: d"))
        self.assertIn('pod "d" injected', err)

    def test_nothing_is_written_when_a_file_is_wrong(self):
        good, bad = self.write("a.yaml", POD), self.write("b.yaml", "kind: Pod\nmetadata: [\n")
        self.refused("inject", good, bad, says=f"{bad}: line 3, column 1: ")
        bad = self.write("c.yaml", POD.replace("  name: web\nspec", "  name: web\n  annotations:\n"
                                               "    config.linkerd.io/proxy-await: maybe\nspec"))
        self.refused("inject", good, bad, says=f'{bad}: line 5, column 36: pod "web": annotation '
                     'config.linkerd.io/proxy-await is "maybe"; allowed is enabled or disabled')
        self.refused("inject", good, os.path.join(self.folder.name, "none"), says="No such file")
        os.mkdir(os.path.join(self.folder.name, "empty"))
        self.refused("inject", os.path.join(self.folder.name, "empty"), says="holds no *.yaml")
        self.refused("inject", "https://example.org/x.yaml", says="not fetched")
        self.refused("inject", "-", stdin="#" * ((16 << 20) + 1), says="16 MiB")

    def test_options(self):
        out, _ = self.run_tulle("inject", "--ingress", "--skip-inbound-ports=25,100-200", "--opaque-ports", "3306",
                                "--native-sidecar=false", "-", stdin=POD)
        for line in ("linkerd.io/inject: ingress", '"config.linkerd.io/skip-inbound-ports": "25,100-200"',
                     '"config.linkerd.io/opaque-ports": "3306"',
                     '"config.linkerd.io/proxy-enable-native-sidecar": "false"'):
            self.assertIn(line, out)
        self.assertEqual(self.run_tulle("uninject", "-", stdin=out)[0], POD)
        self.assertNotIn("native", self.run_tulle("inject", "-", stdin=POD)[0])

    def test_wrong_command_lines(self):
        self.refused("inject", status=64, says="name files or folders")
        self.refused("inject", "--nothing", "-", status=64, says="nothing")
        self.refused("inject", "--proxy-cpu-request", "lots", "-", status=64, says="a quantity like")
        self.refused("inject", "-o", "xml", "-", status=64, says="yaml or json")
        self.refused("inject", "--manual", "-L", "A B", "-", status=64, says="a-z")

    def test_manual(self):
        self.refused("inject", "--manual", "-", stdin=POD, says="--trust-anchors-file")
        self.refused("inject", "--manual", "--trust-anchors-file", self.write("x.pem", "x"), "-", stdin=POD,
                     says="no certificate")
        pem = self.write("ca.pem", PEM)
        out, _ = self.run_tulle("inject", "--manual", "--trust-anchors-file", pem, "-L", "mesh", "--proxy-version",
                                "v7", "-", stdin=POD)
        self.assertIn("linkerd-identity-headless.mesh.svc.cluster.local.:8080", out)
        self.assertIn("image: tulle/proxy:v7\n", out)
        self.assertEqual(self.run_tulle("uninject", "-", stdin=out)[0], POD)

    def test_json_output(self):
        out, _ = self.run_tulle("inject", "-o", "json", "-", stdin=POD)
        self.assertEqual(out, '{\n  "kind": "Pod",\n  "metadata": {\n    "annotations": {\n'
                         '      "linkerd.io/inject": "enabled"\n    },\n    "name": "web"\n  },\n  "spec": {\n'
                         '    "containers": [\n      {\n        "name": "web"\n      }\n    ]\n  }\n}\n')

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            _, err = self.run_tulle("inject", "-", stdin=POD, status=1, stdout=full)
        self.assertIn("cannot write to standard output: No space left on device", err)
        self.assertNotIn("injected", err)


if __name__ == "__main__":
    unittest.main()
