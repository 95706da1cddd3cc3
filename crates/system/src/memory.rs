//! Memory for large pieces of data that are used once.

use rustix::mm::Advice;

/// An empty buffer for `capacity` bytes, in huge pages where the kernel has them. Memory that is filled once is used for
/// little else than being handed out by the kernel, page after page, at a cost that is more than that of filling it.
pub fn buffer(capacity: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(capacity);
    ask_for_huge_pages(buffer.spare_capacity_mut());
    buffer
}

/// What a huge page has on most machines.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeros, likewise, which are only handed out when something is done with them.
pub(crate) fn zeros(length: usize) -> Vec<u8> {
    let mut zeros = vec![0; length];
    ask_for_huge_pages(&mut zeros);
    zeros
}

/// Only advice, so that a refusal does not matter.
#[expect(unsafe_code, reason = "there is no safe way to give it: some other advice loses what the memory holds")]
fn ask_for_huge_pages<Byte>(spare: &mut [Byte]) {
    const { assert!(size_of::<Byte>() == 1) };
    let page = rustix::param::page_size();
    // Whole pages only: what lies beside them is somebody else's.
    let skipped = spare.as_ptr().align_offset(page);
    let length = spare.len().saturating_sub(skipped) / page * page;
    if length == 0 {
        return;
    }
    // SAFETY: these are pages of the slice alone, and the advice does not change what they hold.
    let _refused = unsafe { rustix::mm::madvise(spare[skipped..].as_mut_ptr().cast(), length, Advice::LinuxHugepage) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_any_size_holds_what_it_is_given() {
        for capacity in [0, 1, 4095, 4096, 5000, 1 << 20, (16 << 20) + 1] {
            let mut buffer = buffer(capacity);
            assert!(buffer.is_empty() && buffer.capacity() >= capacity);
            let content: Vec<u8> = (0..capacity).map(|index| u8::try_from(index % 251).unwrap()).collect();
            buffer.extend_from_slice(&content);
            assert!(buffer == content, "{capacity}");
        }
    }
}
