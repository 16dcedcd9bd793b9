package store

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// nonblock is 0, because opening a file never waits on Windows.
const nonblock = 0

// openLock opens the lock, which it makes if there is none, so that no other program can open it until it is
// closed. It returns errInUse if another program has it open.
func openLock(root *os.Root) (*os.File, error) {
	path := filepath.Join(root.Name(), lockName)
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const flags = syscall.FILE_ATTRIBUTE_NORMAL | syscall.FILE_FLAG_OPEN_REPARSE_POINT // opens a link, not its target
	handle, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, flags, 0)
	switch err {
	case nil:
	case syscall.Errno(32): // ERROR_SHARING_VIOLATION
		return nil, errInUse
	default:
		return nil, err
	}
	file := os.NewFile(uintptr(handle), path)
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", lockName, errIrregular)
	}
	return file, err
}
