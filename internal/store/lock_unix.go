//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

// openLock opens a file, and locks it until it is closed. It returns errInUse if another program has locked it.
func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errInUse
	}
	return file, err
}
