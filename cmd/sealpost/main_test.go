package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Every command has help, and an example in it that the parser takes.
func TestHelpHasAnExample(t *testing.T) {
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		n, ok := node.(*kong.Node)
		if ok && n.Type == kong.CommandNode {
			commands++
			checkExample(t, n)
		}
		return next(nil)
	})
	if err != nil || commands < 20 {
		t.Errorf("%d commands looked at: %v", commands, err)
	}
}

func checkExample(t *testing.T, n *kong.Node) {
	_, example, ok := strings.Cut(n.Detail, "Example:\n\n    ")
	if n.Help == "" || !ok {
		t.Errorf("%s: help %q, details %q", n.FullPath(), n.Help, n.Detail)
		return
	}
	example, _, _ = strings.Cut(example, "\n")
	path := n.FullPath()
	if n.Parent.DefaultCmd == n { // its name may be left out
		path = n.Parent.FullPath()
	}
	if !strings.Contains(example, path) {
		t.Errorf("%s: the example is %q", n.FullPath(), example)
	}
}

func TestBareGenerateKey(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"init --generate-key --address a", "init --generate-key=compatible --address a"},
		{"init --generate-key", "init --generate-key=compatible"},
		{"init --generate-key=pqc", "init --generate-key=pqc"},
		{"contact find -- --generate-key", "contact find -- --generate-key"},
		{"", ""},
	} {
		args := strings.Fields(c.args)
		before := slices.Clone(args)
		if got := strings.Join(withDefaults(args), " "); got != c.want {
			t.Errorf("%q becomes %q", c.args, got)
		}
		if !slices.Equal(args, before) {
			t.Errorf("%q was changed in place", c.args)
		}
	}
}
