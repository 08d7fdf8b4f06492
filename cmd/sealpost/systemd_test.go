package main

import (
	"net"
	"strings"
	"testing"
)

func TestSocketsNobodyServesAreAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := sockets{"imap": l, "pop3": l}
	if got, err := s.open("imap", "127.0.0.1:1"); got != l || err != nil {
		t.Fatalf("open: %v, %v", got, err)
	}
	if err := s.leftover(); err == nil || !strings.Contains(err.Error(), "pop3") || strings.Contains(err.Error(), `"imap"`) {
		t.Fatalf("leftover: %v", err)
	}
	delete(s, "pop3")
	if err := s.leftover(); err != nil {
		t.Fatal(err)
	}
}
