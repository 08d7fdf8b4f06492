package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

const providerPassword = "bench-secret"

// provider is where the messages are stored: Dovecot if it is there, else the provider of the tests in this
// process, which is no yardstick.
type provider struct {
	imap      string // host:port
	smtp      *bridgetest.Provider
	dovecot   *exec.Cmd // nil: none
	log       bytes.Buffer
	mail      string // the Maildirs
	uid, gid  int
	inProcess *bridgetest.Provider
}

// startProvider starts it for the given users. Dovecot drops privileges, so it is used as root only.
func startProvider(ctx context.Context, dir string, users []string) (*provider, error) {
	var accounts []bridgetest.User
	for _, u := range users {
		accounts = append(accounts, bridgetest.User{Address: u, Password: providerPassword})
	}
	smtp, err := bridgetest.StartProvider(bridgetest.ProviderOptions{Users: accounts, Security: "insecure"})
	if err != nil {
		return nil, err
	}
	p := &provider{smtp: smtp}
	program, err := exec.LookPath("dovecot")
	if err != nil || os.Getuid() != 0 {
		progress("no Dovecot, or not root: the provider of the tests stands in, and there is nothing to compare with")
		p.inProcess = smtp
		p.imap = strings.TrimPrefix(smtp.IMAPURL(), "imap+insecure://")
		return p, nil
	}
	if err := p.startDovecot(ctx, program, dir); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *provider) startDovecot(ctx context.Context, program, dir string) error {
	account, err := user.Lookup("mail")
	if err != nil {
		return err
	}
	p.uid, _ = strconv.Atoi(account.Uid)
	p.gid, _ = strconv.Atoi(account.Gid)
	p.mail = filepath.Join(dir, "mail")
	port, err := freePort()
	if err != nil {
		return err
	}
	p.imap = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	conf := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(conf, []byte(p.configuration(dir, port)), 0o644); err != nil {
		return err
	}
	p.dovecot = exec.CommandContext(ctx, program, "-F", "-c", conf)
	p.dovecot.Stdout, p.dovecot.Stderr = &p.log, &p.log
	p.dovecot.Cancel = func() error { return p.dovecot.Process.Signal(syscall.SIGTERM) }
	p.dovecot.WaitDelay = 20 * time.Second
	if err := p.dovecot.Start(); err != nil {
		p.dovecot = nil
		return fmt.Errorf("dovecot: %w", err)
	}
	return p.answers(ctx, filepath.Join(dir, "dovecot.log"))
}

// freePort is below the ephemeral range, so that no client's socket takes it meanwhile.
func freePort() (int, error) {
	for try := range 2000 {
		port := 20000 + (os.Getpid()*7+try*13)%12000
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port between 20000 and 32000")
}

// answers waits until a login is possible.
func (p *provider) answers(ctx context.Context, log string) error {
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", p.imap, time.Second); err == nil {
			return conn.Close()
		}
	}
	said, _ := os.ReadFile(log)
	return fmt.Errorf("dovecot does not answer: %w: %s %s", err, p.log.String(), said)
}

// configuration is the least that Dovecot 2.3 needs: any user, one password, a Maildir each.
func (p *provider) configuration(dir string, port int) string {
	return fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
passdb {
  driver = static
  args = password=%[2]s
}
userdb {
  driver = static
  args = uid=%[3]d gid=%[4]d home=%[5]s/%%n
}
first_valid_uid = %[3]d
mail_location = maildir:~/Maildir
mail_max_userip_connections = 100
namespace inbox {
  inbox = yes
  separator = /
}
service imap-login {
  inet_listener imap {
    port = %[6]d
  }
  inet_listener imaps {
    port = 0
  }
}
`, dir, providerPassword, p.uid, p.gid, p.mail, port)
}

// close ends what startProvider started.
func (p *provider) close() error {
	err := p.smtp.Close()
	if p.dovecot == nil {
		return err
	}
	_ = p.dovecot.Process.Signal(syscall.SIGTERM)
	_ = p.dovecot.Wait() // its exit status after a signal says nothing
	return err
}

func localPart(address string) string {
	name, _, _ := strings.Cut(address, "@")
	return name
}

// prepare makes the Maildir of a user.
func (p *provider) prepare(address string) error {
	if p.dovecot == nil {
		return nil
	}
	home := filepath.Join(p.mail, localPart(address))
	for _, sub := range []string{"", "Maildir", "Maildir/cur", "Maildir/new", "Maildir/tmp"} {
		if err := p.makeFolder(filepath.Join(home, sub)); err != nil {
			return err
		}
	}
	return nil
}

func (p *provider) makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chown(path, p.uid, p.gid)
}

// remove deletes the mail of a user.
func (p *provider) remove(address string) error {
	if p.dovecot == nil {
		return nil
	}
	return os.RemoveAll(filepath.Join(p.mail, localPart(address)))
}

// put stores a message, as the server's own delivery would leave it.
func (p *provider) put(address string, m message, data []byte) error {
	if p.dovecot == nil {
		var flags []string
		for _, letter := range m.flags() {
			flags = append(flags, map[rune]string{'F': `\Flagged`, 'R': `\Answered`, 'S': `\Seen`}[letter])
		}
		_, err := p.inProcess.Deliver(address, "INBOX", data, flags...)
		return err
	}
	name := fmt.Sprintf("%d.M%06dP1.bench,S=%d:2,%s", 1_000_000_000+m.index, m.index, len(data), m.flags())
	path := filepath.Join(p.mail, localPart(address), "Maildir/cur", name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	if err := os.Chown(path, p.uid, p.gid); err != nil {
		return err
	}
	return os.Chtimes(path, m.date, m.date) // Dovecot's INTERNALDATE
}

// sampleSize bounds how many stored messages are kept for measuring decryption.
const sampleSize = 10_000

// fill stores count messages, encrypted for one user and clear for the other (if Dovecot can be measured),
// and returns some of the encrypted ones.
func (p *provider) fill(ctx context.Context, k keys, certificate []byte, encryptedUser, clearUser string, count int) ([][]byte, error) {
	autocrypt, err := k.autocrypt()
	if err != nil {
		return nil, err
	}
	box := newMailbox(autocrypt)
	sample := make([][]byte, min(count, sampleSize))
	group, ctx := errgroup.WithContext(ctx)
	for worker := range workers {
		group.Go(func() error {
			e, err := newEncrypter(k, certificate)
			for i := worker; i < count && err == nil; i += workers {
				if err = ctx.Err(); err == nil {
					err = p.fillOne(e, box.message(i, count), encryptedUser, clearUser, sample)
				}
				if i%10_000 == 0 && i > 0 {
					progress("  %d of %d messages written", i, count)
				}
			}
			return err
		})
	}
	return sample, group.Wait()
}

func (p *provider) fillOne(e *encrypter, m message, encryptedUser, clearUser string, sample [][]byte) error {
	armored, err := e.encrypt(m)
	if err != nil {
		return err
	}
	data := m.encrypted(armored)
	if m.index < len(sample) {
		sample[m.index] = data
	}
	if err := p.put(encryptedUser, m, data); err != nil || p.dovecot == nil {
		return err
	}
	return p.put(clearUser, m, m.clear())
}
