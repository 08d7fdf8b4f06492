// Package doctor looks at the machine an installation lives on: the folder, the disk, the ports. It changes nothing.
package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// State of a check.
type State string

// The states, the worst last.
const (
	OK        State = "ok"
	Attention State = "attention" // works, but not for ever
	Problem   State = "problem"   // does not work
)

// Finding is what one check found.
type Finding struct {
	Check  string `json:"check"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do; "" where all is well
}

// Folder looks at who can enter the state folder: keys and mail are encrypted in it, but names of files and sizes are not.
func Folder(dir string) Finding {
	f := Finding{Check: "state folder", State: OK, Detail: dir}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.State, f.Detail, f.Remedy = Problem, dir+" does not exist", "run sealpost init, or restore a backup (sealpost backup restore)"
	case err != nil:
		f.State, f.Detail, f.Remedy = Problem, err.Error(), "check who owns the folder and its mode"
	case info.Mode().Perm()&0o077 != 0:
		f.State, f.Detail, f.Remedy = Attention, fmt.Sprintf("others on this machine can enter %s (mode %o)", dir, info.Mode().Perm()), "chmod 700 "+dir
	case !ownedByUs(info):
		f.State, f.Detail, f.Remedy = Attention, dir+" belongs to another user", "run Sealpost as the folder's owner, or give it to the user that runs it (chown)"
	}
	return f
}

func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}

// What is free on the disk of the state folder, in bytes.
const (
	littleSpace = 1 << 30
	noSpace     = 100 << 20
)

// Disk looks at the space left.
func Disk(dir string) Finding {
	f := Finding{Check: "disk", State: OK}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(existing(dir), &stat); err != nil {
		f.State, f.Detail, f.Remedy = Attention, err.Error(), "look at the disk of "+dir
		return f
	}
	free := int64(stat.Bavail) * int64(stat.Bsize) //nolint:gosec // sizes of disks fit
	f.Detail = fmt.Sprintf("%d MB are free on the disk of %s", free/1_000_000, dir)
	switch {
	case free < noSpace:
		f.State, f.Remedy = Problem, "free some space: mail is refused or not shown when nothing can be written"
	case free < littleSpace:
		f.State, f.Remedy = Attention, "free some space, or move state_dir to another disk"
	}
	return f
}

// existing is the folder or the nearest above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// Port looks whether a listener's address is free, where the daemon does not run.
func Port(name, address string) Finding {
	f := Finding{Check: "listener " + name, State: OK, Detail: address + " is free"}
	l, err := net.Listen("tcp", address)
	if err != nil {
		f.State, f.Detail, f.Remedy = Problem, fmt.Sprintf("%s: %v", address, unwrapped(err)), "stop the program that has it, or change "+name+" in [local]"
		return f
	}
	_ = l.Close()
	return f
}

func unwrapped(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// service is one that copies folders to somebody else's machines, and how its folders are known.
type service struct {
	name    string
	folders []string // names of folders, in lower case, as prefixes of a path's components
	markers []string // files or folders in a synchronised folder's root
}

var services = []service{
	{"Dropbox", []string{"dropbox"}, []string{".dropbox", ".dropbox.cache"}},
	{"OneDrive", []string{"onedrive"}, []string{".849c9593-d756-4e56-8d6e-42412f2a707b"}},
	{"Google Drive", []string{"google drive", "googledrive", "my drive"}, []string{".tmp.drivedownload", ".tmp.driveupload"}},
	{"iCloud Drive", []string{"icloud drive", "iclouddrive", "com~apple~clouddocs", "mobile documents"}, nil},
	{"Nextcloud", []string{"nextcloud"}, []string{".nextcloudsync.log"}},
	{"ownCloud", []string{"owncloud"}, []string{".owncloudsync.log", ".OwnCloudSync.log"}},
	{"Syncthing", nil, []string{".stfolder", ".stignore"}},
	{"MEGA", []string{"megasync", "mega"}, []string{".megaignore", ".debris"}},
	{"pCloud", []string{"pclouddrive", "pcloudsync", "pcloud drive"}, nil},
	{"Seafile", []string{"seafile"}, []string{".seafile-data"}},
	{"Resilio Sync", []string{"resilio sync"}, []string{".sync"}},
	{"Proton Drive", []string{"proton drive", "protondrive"}, nil},
	{"Box", []string{"box sync", "box-box"}, nil},
	{"Tresorit", []string{"tresorit", "tresors"}, nil},
	{"Yandex.Disk", []string{"yandex.disk"}, nil},
}

// exact are names that are too short to be prefixes.
var exact = map[string]bool{"mega": true}

// Cloud looks whether a folder is synchronised to a cloud: what is open there is changed by two programs, which destroys
// databases, and whoever runs the cloud can guess at the passphrase for ever.
func Cloud(dir string) Finding {
	f := Finding{Check: "cloud", State: OK, Detail: dir + " does not look synchronised"}
	paths := []string{filepath.Clean(dir)}
	if real, err := filepath.EvalSymlinks(existing(dir)); err == nil && real != paths[0] {
		paths = append(paths, real)
	}
	for _, path := range paths {
		for folder := path; ; folder = filepath.Dir(folder) {
			if name := syncedBy(folder); name != "" {
				f.State, f.Detail = Attention, fmt.Sprintf("%s lies in %s, which %s synchronises", dir, folder, name)
				f.Remedy = "stop Sealpost, move the folder to where nothing synchronises it, and set state_dir"
				return f
			}
			if folder == filepath.Dir(folder) {
				break
			}
		}
	}
	return f
}

// syncedBy is the service whose folder this seems to be; "" for none.
func syncedBy(folder string) string {
	base := strings.ToLower(filepath.Base(folder))
	for _, s := range services {
		for _, name := range s.folders {
			if base == name || !exact[name] && strings.HasPrefix(base, name) {
				return s.name
			}
		}
		for _, marker := range s.markers {
			if _, err := os.Lstat(filepath.Join(folder, marker)); err == nil {
				return s.name
			}
		}
	}
	return ""
}
