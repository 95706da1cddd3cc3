//! How the bytes of a block are arranged before zstd compresses them: so that what repeats in pages of relations is found
//! sooner, and in fewer bytes. `docs/format.md`, section 2.2.1.

mod columns;
mod pages;

/// An arrangement of as many bytes as there were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// As they are.
    None,
    /// Pages whose line pointers and ctids say how far they are from what is expected.
    RelativePages,
    /// Rows of four bytes, as the numbers of vectors are, column by column.
    Columns4,
    /// Rows of eight bytes, as the tuples of indexes are made of, column by column.
    Columns8,
}

impl Arrangement {
    /// Leaves `plain` so arranged in `arranged`. The answer is no, and nothing is arranged, where it would stay as it is.
    pub(crate) fn arrange(self, plain: &[u8], arranged: &mut Vec<u8>) -> bool {
        match self {
            Self::None => return false,
            Self::RelativePages if !pages::are_there(plain) => return false,
            Self::RelativePages => {
                arranged.clear();
                arranged.extend_from_slice(plain);
                pages::make_relative(arranged);
            }
            Self::Columns4 => columns::split::<4>(plain, arranged),
            Self::Columns8 => columns::split::<8>(plain, arranged),
        }
        true
    }
}

/// Puts the columns that `arranged` consists of back into rows of so many bytes, to `plain`, which is as long.
pub(crate) fn merge_columns<const WIDTH: usize>(arranged: &[u8], plain: &mut [u8]) {
    columns::merge::<WIDTH>(arranged, plain);
}

/// Undoes [`Arrangement::RelativePages`] in place.
pub(crate) fn make_pages_absolute(bytes: &mut [u8]) {
    pages::make_absolute(bytes);
}
