package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// background is a `sealpost run` of a script; its output goes to NAME.out and NAME.err.
type background struct {
	process *exec.Cmd
	done    chan struct{}
}

func (w *world) killAll() {
	for _, b := range w.daemons {
		_ = b.process.Process.Kill()
		<-b.done
	}
}

// environment is what a daemon gets: the names that scripts set.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "GORACE", "GOCOVERDIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "SEALPOST_CONFIG", "SEALPOST_LOG", "SEALPOST_PASSPHRASE_FILE",
	} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// daemon NAME [LISTENER]: starts `sealpost run` and waits for its line ready. LISTENER is opened for it, as systemd does.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 && len(args) != 2 {
		ts.Fatalf("usage: daemon NAME [LISTENER]")
	}
	name := args[0]
	path, err := exec.LookPath("sealpost")
	ts.Check(err)
	b := &background{process: exec.Command(path, "run"), done: make(chan struct{})}
	b.process.Env, b.process.Dir = environment(ts), ts.MkAbs(".")
	if len(args) == 2 {
		defer passSocket(ts, b.process, args[1])()
	}
	stdout, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	stderr, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	b.process.Stdout, b.process.Stderr = stdout, stderr
	ts.Check(b.process.Start())
	worldOf(ts).daemons[name] = b
	go func() {
		_ = b.process.Wait()
		_, _ = stdout.Close(), stderr.Close()
		close(b.done)
	}()
	poll(ts, func() bool {
		select {
		case <-b.done:
			ts.Fatalf("it ended: %s", ts.ReadFile(ts.MkAbs(name+".err")))
		default:
		}
		return strings.HasSuffix(ts.ReadFile(ts.MkAbs(name+".out")), "\nready\n")
	})
}

// passSocket opens a socket for a process under the name of a listener (sd_listen_fds(3)); its address goes to the
// environment as SOCKET.
func passSocket(ts *testscript.TestScript, process *exec.Cmd, name string) (done func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	file, err := l.(*net.TCPListener).File()
	ts.Check(err)
	process.Args = []string{"sh", "-c", `LISTEN_PID=$$ exec "$0" run`, process.Path}
	process.Path, err = exec.LookPath("sh")
	ts.Check(err)
	process.ExtraFiles = []*os.File{file}
	process.Env = append(process.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)
	ts.Setenv("SOCKET", l.Addr().String())
	return func() { _, _ = l.Close(), file.Close() }
}

// web NAME LISTENER PATH: what the daemon's web server answers: the status, then the body.
func getFromDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: web NAME LISTENER PATH")
	}
	_, after, _ := strings.Cut(ts.ReadFile(ts.MkAbs(args[0]+".out")), "listening "+args[1]+" ")
	address, _, _ := strings.Cut(after, "\n")
	response, err := http.Get("http://" + address + args[2])
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s", response.Status, body)
}

func daemonOf(ts *testscript.TestScript, name string) *background {
	b := worldOf(ts).daemons[name]
	if b == nil {
		ts.Fatalf("no daemon is called %s", name)
	}
	return b
}

// signal NAME TERM|HUP|KILL
func signalDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME TERM|HUP|KILL")
	}
	signal := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[1]]
	ts.Check(daemonOf(ts, args[0]).process.Process.Signal(signal))
}

// ended NAME CODE: waits for its end; -1 is a signal.
func daemonEnded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := daemonOf(ts, args[0])
	poll(ts, func() bool {
		select {
		case <-b.done:
			return true
		default:
			return false
		}
	})
	if code := b.process.ProcessState.ExitCode(); code != want {
		ts.Check(errors.New("exit code " + strconv.Itoa(code) + ": " + ts.ReadFile(ts.MkAbs(args[0]+".err"))))
	}
	delete(worldOf(ts).daemons, args[0])
}
