package store

import (
	"os"
	"syscall"
)

// openLock opens a file that no other program can open until it is closed. It returns errInUse if another
// program has it open.
func openLock(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	handle, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	switch err {
	case nil:
		return os.NewFile(uintptr(handle), path), nil
	case syscall.Errno(32): // ERROR_SHARING_VIOLATION
		err = errInUse
	}
	return nil, err
}
