//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

// nonblock is the flag with which opening a pipe does not wait for its other end.
const nonblock = syscall.O_NONBLOCK

// openLock opens the lock, which it makes if there is none, and locks it until it is closed. It returns
// errInUse if another program has locked it.
func openLock(root *os.Root) (*os.File, error) {
	file, err := openRegular(root, lockName, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		file, err = root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) { // another program has just made it
			file, err = openRegular(root, lockName, os.O_RDWR)
		}
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errInUse
	}
	return file, err
}
