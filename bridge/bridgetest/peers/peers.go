//go:build peers

package peers

import (
	"context"
	"embed"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed rig
var rig embed.FS

// stepTime bounds one run of a program.
const stepTime = 3 * time.Minute

// Need fails the test unless the program is installed, naming its Debian package.
func Need(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	// Servers live where ordinary users' PATH does not look.
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			t.Setenv("PATH", os.Getenv("PATH")+":"+dir)
			return
		}
	}
	t.Fatalf("%s is not installed: apt-get install %s", program, debianPackage)
}

// Dir makes a folder that the servers' own users can enter, with a path short enough for Unix
// sockets. It is removed at the end of the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sealpost-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the state of a peer: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// script unpacks a rig script into dir.
func script(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := fs.ReadFile(rig, "rig/"+name)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Run runs a program and returns what it printed on stdout; it fails the test if the program does.
func Run(t testing.TB, env []string, stdin []byte, program string, args ...string) string {
	t.Helper()
	out, err := try(t, env, stdin, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run without environment and input, and returns the error, a *RunError.
func Try(t testing.TB, program string, args ...string) (string, error) {
	t.Helper()
	return try(t, nil, nil, program, args...)
}

func try(t testing.TB, env []string, stdin []byte, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(string(stdin))
	// Files, not pipes: a daemon that keeps its parent's output open would make Wait wait for it.
	stdout, stderr := outputFile(t), outputFile(t)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	out, problems := contents(t, stdout), contents(t, stderr)
	if err != nil {
		return out, &RunError{Program: filepath.Base(program), Args: args, Output: out + problems, Err: err}
	}
	return out, nil
}

// RunError is a program that failed.
type RunError struct {
	Program string
	Args    []string
	Output  string
	Err     error
}

func (e *RunError) Error() string {
	return e.Program + " " + strings.Join(e.Args, " ") + ": " + e.Err.Error() + "\n" + e.Output
}

func (e *RunError) Unwrap() error { return e.Err }

func outputFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func contents(t testing.TB, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	return string(b)
}
