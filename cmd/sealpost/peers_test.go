//go:build peers

package main

import "testing"

// TestPeerScripts runs the scripts that need root (a small disk to be filled) or a program of others (swaks).
func TestPeerScripts(t *testing.T) { runScripts(t, "testdata/peers") }
