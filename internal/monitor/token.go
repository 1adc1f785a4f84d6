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

	"quantumharvest/internal/monitor/folder"
	"quantumharvest/internal/statefile"
)

const (
	tokenName = "token"
	// ClientName is the file beside the token of our own folder that amtool takes as --http.config.file.
	ClientName = "amtool.yml"
	tokenBytes = 32
	// minTokenLen keeps a token of the operator's own from being guessed.
	minTokenLen = 16
)

// errNoToken says that a file holds no token.
var errNoToken = fmt.Errorf("it must hold one token of at least %d characters and nothing else", minTokenLen)

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
	if len(token) < minTokenLen || strings.ContainsAny(token, " \t\r\n\x00") {
		return "", fmt.Errorf("monitor: token file %s: %w; remove the file and a new one is made", path, errNoToken)
	}
	if info, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("monitor: token file %s can be read by others (mode %#o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return token, nil
}

// ownToken reads the token of our own folder. One that is damaged is no reason to stop a desk: it is set aside like any other
// part, and a new one is made.
func ownToken(f *folder.Folder) (string, error) {
	token, err := readToken(f.Path(tokenName))
	if !errors.Is(err, errNoToken) {
		return token, err
	}
	if err := f.SetAside(tokenName, err); err != nil {
		return "", err
	}
	return makeToken(f.Path(tokenName))
}

func makeToken(path string) (string, error) {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // never fails
	token := hex.EncodeToString(b)
	if err := statefile.Write(path, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("monitor: make the token file: %w", err)
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
	if err := statefile.Write(path, []byte(text)); err != nil {
		return fmt.Errorf("monitor: write %s: %w", path, err)
	}
	return nil
}
