#!/usr/bin/env python3
"""Plants violations in a temporary tree and expects the checking tools to find them."""

import hashlib
import http.server
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile

TOOLS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS))
sys.path.insert(0, str(TOOLS.parent / "wan" / "sim" / "planted"))
import check_purity  # noqa: E402  (found through the line above)
import plant  # noqa: E402
import tidy  # noqa: E402

SELF_NOTE = "TO" + "DO"
MACHINE_PATH = "/" + "home/somebody/file"


class TreeTest(unittest.TestCase):
    """A temporary source tree and a way to run a tool on it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run_tool(self, tool, *arguments):
        """(exit code, output)."""
        done = subprocess.run([sys.executable, TOOLS / tool, *map(str, arguments)], check=False,
                              capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout

    def expect(self, tool, *lines):
        """The tool reports exactly the lines that begin like this."""
        code, output = self.run_tool(tool, self.root)
        found = output.splitlines()
        self.assertEqual(len(found), len(lines), output)
        for line in lines:
            self.assertTrue(any(one.startswith(line) for one in found), f"{line}\nnot in\n{output}")
        self.assertEqual(code, 1 if lines else 0)


class LayersTest(TreeTest):
    """tools/check_layers.py"""

    def include(self, name, *headers):
        self.write(name, "".join(f"#include {header}\n" for header in headers))

    def test_legal_includes_pass(self):
        self.include("common/a.h", "<vector>", '"absl/status/status.h"', "<sodium.h>")
        self.include("transport/a.cc", '"common/a.h"', '"transport/a.h"', "<zmq.hpp>")
        self.include("proto/codec_parts.h", '"longhaul.pb.h"', "<google/protobuf/message.h>")
        self.include("coordinator/core/a.cc", '"proto/a.h"', '"sync/a.h"')
        self.include("coordinator/a.cc", '"coordinator/core/a.h"', '"reducer/a.h"', "<httplib.h>")
        self.include("worker/train/a.cc", "<ATen/core/Tensor.h>", '"worker/trainer.h"')
        self.include("cli/a.cc", '"wan/a.h"', '"worker/a.h"', '"CLI/CLI.hpp"', "<toml++/toml.h>")
        self.include("wan/sim/a.cc", '"coordinator/core/a.h"', '"worker/core/a.h"')
        self.include("bench/a.cc", "<benchmark/benchmark.h>", '"wan/a.h"')
        self.include("build/x/a.cc", '"cli/a.h"')
        self.expect("check_layers.py")

    def test_upward_and_sideways_includes(self):
        self.include("common/a.h", '"proto/messages.h"')
        self.include("transport/a.cc", "<vector>", '"proto/messages.h"')
        self.include("worker/core/a.cc", '"worker/trainer.h"')
        self.include("reducer/a.cc", '"coordinator/core/a.h"')
        self.include("coordinator/a.cc", '"worker/core/a.h"')
        self.include("worker/a.cc", '"cli/a.h"')
        self.expect("check_layers.py", "common/a.h:1: ", "transport/a.cc:2: ",
                    "worker/core/a.cc:1: ", "reducer/a.cc:1: ", "coordinator/a.cc:1: ",
                    "worker/a.cc:1: ")

    def test_fences(self):
        self.include("common/a.cc", "<zmq.h>")
        self.include("proto/messages.cc", '"longhaul.pb.h"')
        self.include("coordinator/core/a.cc", "<nlohmann/json.hpp>", "<httplib.h>")
        self.include("worker/a.cc", "<nlohmann/json.hpp>", "<spdlog/spdlog.h>", "<toml++/toml.h>")
        self.include("worker/trainer.cc", "<torch/torch.h>")
        self.include("data/a.cc", "<boost/any.hpp>", '"a.h"')
        self.include("model/a.cc", "<gtest/gtest.h>", "<benchmark/benchmark.h>")
        self.expect("check_layers.py", "common/a.cc:1", "proto/messages.cc:1",
                    "coordinator/core/a.cc:1", "coordinator/core/a.cc:2", "worker/a.cc:1",
                    "worker/a.cc:2", "worker/a.cc:3", "worker/trainer.cc:1", "data/a.cc:1",
                    "data/a.cc:2", "model/a.cc:1", "model/a.cc:2")

    def test_std_only_and_pure_folders(self):
        self.include("sync/a.cc", '"common/rng.h"', '"absl/status/status.h"', "<xxhash.h>")
        self.include("compression/a.cc", '"common/rng.h"', "<immintrin.h>", "<unistd.h>")
        self.include("reducer/a.cc", "<thread>", "<chrono>", "<sys/socket.h>")
        self.expect("check_layers.py", "sync/a.cc:2", "sync/a.cc:3", "compression/a.cc:1",
                    "compression/a.cc:3", "reducer/a.cc:1", "reducer/a.cc:3")

    def test_tests_may_use_gtest_and_lower_folders_and_must_be_registered(self):
        self.write("compression/CMakeLists.txt", "longhaul_test(t SOURCES a_test.cc)\n"
                   "# b_test.cc\n")
        self.include("compression/a_test.cc", '"common/rng.h"', "<gtest/gtest.h>")
        self.include("compression/b_test.cc", "<gmock/gmock.h>")
        self.expect("check_layers.py", "compression/b_test.cc:1: no CMakeLists.txt")

    def test_unknown_folder(self):
        self.include("elsewhere/a.cc", "<vector>")
        self.expect("check_layers.py", "elsewhere/a.cc:1: ")


class TidyTest(TreeTest):
    """tools/tidy.py"""

    HEADER = "// What it is.\n#pragma once\n"

    def test_good_code_passes(self):
        self.write("common/a.h", self.HEADER + "int Twice(int x);\n")
        self.write("common/a.cc", "// " + "é" * 90 + '\nconst char* k = "rand() sleep(1)";\n')
        self.write("cli/worker_main.cc", 'int main() { return getenv("A") != nullptr; }\n')
        self.write("transport/a_test.cc", "auto now = std::chrono::steady_clock::now();\n")
        self.write("worker/a.cc", "void F() { std::this_thread::sleep_for(x); }\n")
        self.write("docs/a.md", "Long lines pass here: " + "x" * 200 + " ~/work/a build/work/b\n")
        self.expect("tidy.py")

    def test_lines_and_files(self):
        self.write("common/a.cc", "//\n" + "x" * 101 + "\n")
        self.write("common/b.cc", "//\n" * 801)
        self.write("tools/a.py", "#" * 101 + "\n")
        self.write("common/c.cc", f"// {SELF_NOTE}: later\n")
        self.write("docs/a.md", f"see {MACHINE_PATH}\n")
        self.expect("tidy.py", "common/a.cc:2: 101 columns", "common/b.cc:1: 801 lines",
                    "tools/a.py:1: 101 columns", "common/c.cc:1: ", "docs/a.md:1: ")

    def test_files_between_the_limits_are_listed_and_pass(self):
        self.write("common/a.cc", "//\n" * 501)
        code, output = self.run_tool("tidy.py", self.root)
        self.assertEqual((code, output), (0, "common/a.cc: over 500 lines (passes)\n"))

    def test_headers(self):
        self.write("common/a.h", "// What it is.\nint a;\n")
        self.write("common/b.h", "#pragma once\n")
        self.expect("tidy.py", "common/a.h:1: no #pragma once", "common/b.h:1: a header begins")

    def test_banned_calls(self):
        self.write("common/a_test.cc", "//\nvoid F() { absl::SleepFor(a); }\n")
        self.write("worker/a.cc", 'auto a = std::getenv("A");\nint b = rand();\n')
        self.write("sync/a.cc", "std::random_device d;\nauto t = steady_clock::now();\n")
        self.write("proto/a.cc", "auto t = system_clock::now();\nusing namespace std;\n")
        self.expect("tidy.py", "common/a_test.cc:2: ", "worker/a.cc:1: ", "worker/a.cc:2: ",
                    "sync/a.cc:1: ", "sync/a.cc:2: ", "proto/a.cc:1: ", "proto/a.cc:2: ")

    def test_long_function(self):
        body = "  int x = 0;\n"
        self.write("common/a.cc", "namespace a {\nint Fits() {\n" + body * 68 + "}\n}\n")
        self.write("common/b.cc", "namespace a {\nint Long() {\n" + body * 69 + "}\n}\n")
        self.expect("tidy.py", "common/b.cc:2: function Long has 71 lines")

    def test_function_scanner(self):
        text = """
namespace n {
template <typename T> class C : public B<T> {
 public:
  C(int a)
      : a_{a}, b_(a) {
    if (a) { F("}"); }
  }
  bool operator==(const C& other) const { return a_ == other.a_; }
 private:
  int a_ = 0;
};
constexpr int kTable[] = {1, 2};
enum class E { kA };
auto Lambda(int x = 3) -> int {
  return [&] { return x; }();  // }
}
const char* kRaw = R"(void G() {)";
TEST(Suite, Name) { EXPECT_EQ('{', '}'); }
}
"""
        self.assertEqual(tidy.functions(text), [
            ("C", 5, 8), ("operator==", 9, 9), ("Lambda", 15, 17),
            ("TEST(Suite, Name)", 19, 19)])


@unittest.skipUnless(shutil.which("g++") and shutil.which("nm"), "needs g++ and nm")
class PurityTest(TreeTest):
    """tools/check_purity.py"""

    def archive(self, folder, code):
        """Compiles one file into the archive of a pure folder."""
        source = self.write(f"{folder}/a.cc", code)
        build = self.root / "build"
        build.mkdir(exist_ok=True)
        subprocess.run(["g++", "-std=c++20", "-c", source, "-o", build / "a.cc.o"], check=True)
        name = f"liblonghaul_{folder.replace('/', '_')}.a"
        subprocess.run(["ar", "rcs", build / name, build / "a.cc.o"], check=True)

    def check(self):
        return self.run_tool("check_purity.py", self.root / "build", self.root)

    def test_pure_code_passes(self):
        self.archive("sync", "#include <cmath>\n#include <string>\n#include <map>\n"
                     "double F(double x) { return std::sqrt(x) + std::fma(x, x, x); }\n"
                     "std::map<std::string, int> G() { return {{std::to_string(1), 2}}; }\n")
        self.archive("reducer", "#include <cmath>\ndouble F(double x) { return std::exp(x); }\n")
        self.assertEqual(self.check(), (0, ""))

    def test_each_impurity_is_found(self):
        cases = {
            "clock": "#include <chrono>\nauto F() { return std::chrono::steady_clock::now(); }",
            "thread": "#include <thread>\nvoid F(void g()) { std::thread(g).join(); }",
            "pthread_mutex": "#include <mutex>\nvoid F(std::mutex& m) { m.lock(); }",
            "socket": "#include <sys/socket.h>\nint F() { return socket(1, 2, 3); }",
            "fstream": "#include <fstream>\nvoid F() { std::ofstream(\"a\") << 1; }",
            "fopen": "#include <cstdio>\nvoid F() { std::fopen(\"a\", \"r\"); }",
            "random_device": "#include <random>\nint F() { return std::random_device()(); }",
            "getenv": "#include <cstdlib>\nauto F() { return std::getenv(\"a\"); }",
        }
        for word, code in cases.items():
            with self.subTest(word):
                self.archive("worker/core", code + "\n")
                status, output = self.check()
                self.assertEqual(status, 1)
                self.assertIn(word, output)
                self.assertTrue(output.startswith("worker/core/a.cc:1: needs "), output)

    def test_transcendentals_in_exact_folders(self):
        self.archive("compression",
                     "#include <cmath>\nfloat F(float x) { return std::pow(x, x); }\n")
        status, output = self.check()
        self.assertEqual(status, 1)
        self.assertIn("needs powf", output)

    def test_missing_archive(self):
        self.write("sharding/a.cc", "int a;\n")
        self.write("reducer/a_test.cc", "int a;\n")
        status, output = self.check()
        self.assertEqual(status, 1)
        self.assertIn("liblonghaul_sharding.a", output)
        self.assertNotIn("reducer", output)

    def test_names_that_only_look_impure(self):
        for symbol in ("n::time(int)", "std::count", "expand", "absl::Nowhere"):
            self.assertIsNone(check_purity.impurity(symbol, True), symbol)


class PlantTest(unittest.TestCase):
    """wan/sim/planted/plant.py"""

    SOURCE = "a;\nb;\nc;\n"

    def plant(self, bugs, source=SOURCE):
        return plant.planted(plant.read_bugs(bugs), lambda name: source)

    def test_puts_each_bug_behind_its_own_switch(self):
        texts = self.plant("# Why.\nbug one\nin x.cc\n-b;\n+if (!PLANTED) b;\n\n"
                           "bug two\nin x.cc\n-c;\n+PLANTED ? d : c;\nin y.cc\n-a;\n+\n")
        self.assertEqual(sorted(texts), ["x.cc", "y.cc"])
        self.assertIn("\na;\nif (!::longhaul::sim::Planted(0)) b;\n"
                      "::longhaul::sim::Planted(1) ? d : c;\n", texts["x.cc"])

    def test_refuses_what_it_cannot_plant(self):
        for bugs in ("bug one\nin x.cc\n-z;\n+y;\n",          # is not there
                     "bug Two Words\nin x.cc\n-a;\n+b;\n",    # no name
                     "bug one\nin x.cc\n-a;\n+b;\nwhat\n"):   # not understood
            with self.subTest(bugs), self.assertRaises(plant.Problem):
                self.plant(bugs)
        with self.assertRaises(plant.Problem):
            self.plant("bug one\nin x.cc\n-a;\n+b;\n", "a;\na;\n")


class WheelServer(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel. The first answer stops half way, as a bad line does."""

    wheel = b""
    requests = []

    def do_GET(self):  # noqa: N802  (the name that http.server calls)
        requested = self.headers.get("Range")
        self.requests.append((self.path, requested))
        if self.path == "/simple/toy/":
            self.reply(200, b'<a href="../../files/toy-1-py3-none-any.whl#sha256=00">toy</a>')
        elif requested:
            self.reply(206, self.wheel[int(requested[len("bytes="):-1]):])
        else:
            self.reply(200, self.wheel[:len(self.wheel) // 2], len(self.wheel))

    def reply(self, status, body, promised=None):
        self.send_response(status)
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@unittest.skipUnless(shutil.which("g++"), "needs g++")
class FetchTest(TreeTest):
    """tools/fetch_wheels.py against a server in this process."""

    def setUp(self):
        super().setUp()
        library = self.root / "toy.so"
        subprocess.run(["g++", "-shared", "-x", "c++", "/dev/null", "-o", library], check=True)
        self.make_wheel(library.read_bytes())
        WheelServer.requests = []
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WheelServer)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.index = f"http://127.0.0.1:{server.server_address[1]}/simple"

    def make_wheel(self, library):
        archive = self.root / "toy.zip"
        with zipfile.ZipFile(archive, "w") as out:
            out.writestr("torch/lib/libtorch_cpu.so", library)
            out.writestr("torch/big", os.urandom(100_000))
        WheelServer.wheel = archive.read_bytes()
        self.make_list(hashlib.sha256(WheelServer.wheel).hexdigest())

    def make_list(self, sha256):
        size = len(WheelServer.wheel)
        self.write("wheels.txt", f"# list\ncpu {size} {sha256} toy-1-py3-none-any.whl\n")

    def fetch(self):
        environment = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": self.index, "no_proxy": "*"}
        command = [sys.executable, TOOLS / "fetch_wheels.py", "--list", self.root / "wheels.txt",
                   "--target", self.root / "out", "--cache", self.root / "cache",
                   "--pause", "0"]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    def test_resumes_verifies_unpacks_and_rests(self):
        done = self.fetch()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        files = [request for request in WheelServer.requests if request[0].endswith(".whl")]
        half = len(WheelServer.wheel) // 2
        self.assertEqual([wanted for _, wanted in files], [None, f"bytes={half}-"])
        self.assertTrue((self.root / "out/torch/big").exists())
        count = len(WheelServer.requests)
        done = self.fetch()
        self.assertEqual((done.returncode, done.stdout), (0, "note: already there\n"))
        self.assertEqual(len(WheelServer.requests), count)

    def test_refuses_a_wrong_hash(self):
        self.make_list("0" * 64)
        done = self.fetch()
        self.assertEqual(done.returncode, 1)
        self.assertIn("the hash is wrong", done.stdout)
        self.assertFalse((self.root / "out/torch").exists())

    def test_a_library_that_does_not_load_is_not_taken_for_done(self):
        self.make_wheel(b"not a library")
        for _ in range(2):
            done = self.fetch()
            self.assertEqual(done.returncode, 1)
            self.assertIn("does not load", done.stderr)


if __name__ == "__main__":
    unittest.main()
