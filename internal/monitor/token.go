package monitor

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	tokenName  = "token"
	clientName = "amtool.yml"
	tokenBytes = 32
	// minTokenLen keeps a token of the operator's own from being guessed.
	minTokenLen = 16
)

// readToken reads the token that writes need, and makes it where the file is not there yet: readable by this user only.
func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("monitor: token file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minTokenLen || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("monitor: token file %s: it must hold one token of at least %d characters and nothing else; "+
			"remove the file and a new one is made", path, minTokenLen)
	}
	if info, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("monitor: token file %s can be read by others (mode %#o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // never fails
	token := hex.EncodeToString(b)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("monitor: make the token file: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("monitor: write the token file: %w", err)
	}
	return token, nil
}

// writeClientFile writes what amtool takes as --http.config.file, so that nobody has to know how a token is sent.
func writeClientFile(path, tokenPath string) error {
	abs, err := filepath.Abs(tokenPath)
	if err != nil {
		return fmt.Errorf("monitor: token file: %w", err)
	}
	text := "# For amtool --http.config.file\nauthorization:\n  credentials_file: " + fmt.Sprintf("%q", abs) + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("monitor: write %s: %w", path, err)
	}
	return nil
}
