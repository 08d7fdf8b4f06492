//go:build peers

package main

import "testing"

// TestFullDisk needs root, to mount a disk that is small enough to be filled.
func TestFullDisk(t *testing.T) { runScripts(t, "testdata/peers") }
