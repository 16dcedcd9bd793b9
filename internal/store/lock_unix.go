//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// openLock opens a file that no other program has locked, and locks it until it is closed.
func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errInUse
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}
