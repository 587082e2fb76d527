package site

// Bounds of a set of secret files, wherever it comes from.
const (
	MaxSecrets    = 64       // files
	MaxSecretSize = 64 << 10 // bytes of each; none is empty
	MaxSecretName = 100      // bytes
)

// SecretName says whether a secret file may be called so.
func SecretName(name string) bool {
	return name != "" && len(name) <= MaxSecretName && name[0] != '.' && notIn(name, lower+upper+digits+"._-") == ""
}
