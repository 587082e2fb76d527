//go:build linux

package become

import "syscall"

// read returns a file's content as far as it can be read; nothing where there
// is no such file, as before /proc is mounted.
func read(file string) (text []byte) {
	fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			return text
		}
		text = append(text, buf[:n]...)
	}
}

func write(file, text string) error {
	fd, err := syscall.Open(file, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(text))
	return err
}

// split cuts text at each end, and leaves out what follows the last.
func split(text []byte, end byte) (words []string) {
	begin := 0
	for i, c := range text {
		if c == end {
			words = append(words, string(text[begin:i]))
			begin = i + 1
		}
	}
	return words
}

// numbers reads decimal numbers with commas between them; no text is none.
func numbers(text string) (all []int, err error) {
	if text == "" {
		return nil, nil
	}
	for _, w := range split([]byte(text+","), ',') {
		n := 0
		for _, c := range w {
			if c < '0' || c > '9' || n > 1<<58 {
				return nil, syscall.EINVAL
			}
			n = n*10 + int(c-'0')
		}
		if w == "" {
			return nil, syscall.EINVAL
		}
		all = append(all, n)
	}
	return all, nil
}

func decimal(n int) string {
	text := ""
	for ; n > 9; n /= 10 {
		text = string(rune('0'+n%10)) + text
	}
	return string(rune('0'+n)) + text
}
