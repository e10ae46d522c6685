package sqldir

import (
	"fmt"
	"slices"
	"strconv"

	"mailsrv/pkg/directory"
)

// maxNumber keeps uidNumber and gidNumber, which are made of it, within 32 bits.
const maxNumber = 1 << 30

// numbered gives users and groups their number, which no other entry has had. One
// that is there, as of an entry that comes from an export, stays and is taken from
// then on. s is the entry's own id, 0 if it has none yet.
func (w *write) numbered(e directory.Entry, id int64) (directory.Entry, error) {
	if !slices.ContainsFunc([]string{"inetMailUser", "inetMailGroup", "groupOfUniqueNames"}, e.HasClass) {
		return e, nil
	}
	last, err := w.lastNumber()
	if err != nil {
		return e, err
	}
	given := e.Value(directory.NumberAttribute)
	if given == "" {
		last++
		return setValue(e, directory.NumberAttribute, strconv.Itoa(last)), w.keepNumber(last)
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 || n > maxNumber {
		return e, result(directory.ConstraintViolation, "%s is 1 to %d", directory.NumberAttribute, maxNumber)
	}
	t := w.dir.schema.Attribute(directory.NumberAttribute)
	if err := w.untaken(id, []string{t.Key()}, w.dir.schema.Normal(t, given), ""); err != nil || n <= last {
		return e, err
	}
	return e, w.keepNumber(n)
}

func (w *write) lastNumber() (last int, err error) {
	_, err = w.tx.Get("SELECT value FROM meta WHERE name='number'", nil, &last)
	return last, err
}

func (w *write) keepNumber(n int) error {
	if n > maxNumber {
		return fmt.Errorf("numbers of users and groups are used up: %d", n)
	}
	_, _, err := w.tx.Exec("INSERT OR REPLACE INTO meta (name, value) VALUES ('number', ?)", n)
	return err
}
