//go:build !linux

package extract

import "syscall"

// isolated: other systems have no such thing for a user.
func isolated() *syscall.SysProcAttr { return nil }
