/// What the usual loader gets silently wrong is an error here, with the exact place.

#include "catch.hpp"
#include "wts_files.hpp"

#include <set>

using namespace files;
using porter::ErrorCode;

namespace {
struct Fault {
    std::string bytes;
    ErrorCode code;
    std::size_t offset, line, column;
    std::string tensor;
};

const std::vector<Fault>& faults() {
    static const std::vector<Fault> all = {
        // A truncated file.
        {"2\na 1 3f800000\nb 2 3f800000 3f80", ErrorCode::truncated, 28, 3, 14, "b"},
        {"2\na 1 3f800000\nb 3 3f800000 3f800000", ErrorCode::truncated, 36, 3, 22, "b"},
        {"1\nb 3 3f800000 3f800000 ", ErrorCode::truncated, 23, 2, 22, "b"},
        {"1\nb 3", ErrorCode::truncated, 5, 2, 4, "b"},
        {"2\na 1 3f800000\nbias", ErrorCode::truncated, 19, 3, 5, "bias"},
        {"2\na 1 3f800000\n", ErrorCode::wrong_tensor_count, 15, 3, 0, ""},
        {"2\na 0 1 3f800000 \nb 0 2 3f800000 3f8", ErrorCode::truncated, 36, 3, 19, "b"},
        {"2\na 0 1 3f800000 \nb 0", ErrorCode::truncated, 21, 3, 4, "b"},
        // A wrong count.
        {"2\na 3 3f800000 3f800000\nb 1 3f800000\n", ErrorCode::too_few_values, 23, 2, 22, "a"},
        {"2\na 4 3f800000 3f800000\nb 1 3f800000\n", ErrorCode::too_few_values, 23, 2, 22, "a"},
        {"3\na 4 3f800000 3f800000\nbbbb 1 3f800000\nc 1 3f800000\n", ErrorCode::too_few_values, 23, 2, 22, "a"},
        {"2\na 0 3 3f800000 1 \nb 0 1 2 \n", ErrorCode::too_few_values, 18, 2, 17, "a"},
        {"1\na 999999999999999999 3f800000\n", ErrorCode::too_few_values, 31, 2, 30, "a"},
        {"2\na 1 3f800000 3f800001\nb 1 3f800000\n", ErrorCode::too_many_values, 15, 2, 14, "a"},
        {"2\nb 1 3f800000\na 0 3f800000\n", ErrorCode::too_many_values, 19, 3, 5, "a"},
        {"2\na 0 1 3f800000 1 \nb 0 1 2 \n", ErrorCode::too_many_values, 17, 2, 16, "a"},
        {"1\na 1 3f800000\nb 1 3f800000\n", ErrorCode::wrong_tensor_count, 15, 3, 1, "b"},
        {"3\na 1 3f800000\nb 1 3f800000\n", ErrorCode::wrong_tensor_count, 28, 4, 0, ""},
        {"1\na -1 3f800000\n", ErrorCode::bad_header, 4, 2, 3, "a"},
        {"1\na 1f 3f800000\n", ErrorCode::bad_header, 4, 2, 3, "a"},
        {"1\na 01 3f800000\n", ErrorCode::bad_header, 4, 2, 3, "a"},
        {"1\na " + std::string(5000, '9') + " 3f800000\n", ErrorCode::bad_header, 4, 2, 3, "a"},
        // A name with a space.
        {"2\na 1 3f800000\nmy bias 1 3f800000\n", ErrorCode::name_with_space, 18, 3, 4, "my"},
        {"2\na 1 3f800000\nconv 1a 1 3f800000\n", ErrorCode::name_with_space, 20, 3, 6, "conv"},
        {"2\na 0 1 3f800000 \nmy bias 0 1 3f800000 \n", ErrorCode::name_with_space, 21, 3, 4, "my"},
        {"2\na 2 (1,) x\nb c 2 (1,) x\n", ErrorCode::name_with_space, 13, 0, 0, "b"},
        // A stray character.
        {"1\na 2 3f800000 3f8g0000\n", ErrorCode::stray_character, 18, 2, 17, "a"},
        {"1\na 2 3f800000 3f8\xff"
         "0000\n",
         ErrorCode::stray_character, 18, 2, 17, "a"},
        {"1\na 2 0x3f800000 0x3f800000\n", ErrorCode::stray_character, 7, 2, 6, "a"},
        {"1\na 2 3f800000\r3f800000\n", ErrorCode::stray_character, 14, 2, 13, "a"},
        // Words.
        {"1\na 2 3f8000001 3f800000\n", ErrorCode::wrong_digits, 6, 2, 5, "a"},
        {"1\na 2 3f8000003f800000\n", ErrorCode::wrong_digits, 6, 2, 5, "a"},
        {"1\na 2 3f80000 3f800000\n", ErrorCode::wrong_digits, 6, 2, 5, "a"},
        {"2\na 2 3f800000 3f8\nb 1 3f800000\n", ErrorCode::wrong_digits, 15, 2, 14, "a"},
        {"1\n\xc3\xa4\xc3\xb6 2 3f800000 3f8000\n", ErrorCode::wrong_digits, 18, 2, 15, "\xc3\xa4\xc3\xb6"},
        {"1\na 1 1 13c00 \n", ErrorCode::wrong_digits, 8, 2, 7, "a"},
        {"1\na 2 2 7f ffffff80 \n", ErrorCode::wrong_digits, 11, 2, 10, "a"},
        // Names, types, dialects, the first line.
        {"2\na 1 3f800000\na 1 3f800000\n", ErrorCode::duplicate_name, 15, 3, 1, "a"},
        {"2\na 2 (1,) x\na 2 (1,) x\n", ErrorCode::duplicate_name, 13, 0, 0, "a"},
        {"1\n a\x01"
         "b 1 3f800000\n",
         ErrorCode::bad_name, 4, 2, 3, ""},
        {"2\na 0 1 0 \nb 7 1 0 \n", ErrorCode::unknown_type, 13, 3, 3, "b"},
        {"1\na 9 (1,) x\n", ErrorCode::unknown_type, 2, 0, 0, "a"},
        {"2\na 0 1 3f800000 \nb 1 3f800000\n", ErrorCode::mixed_dialects, 22, 3, 5, "b"},
        {"2\nb 1 3f800000\na 0 1 3f800000 \n", ErrorCode::mixed_dialects, 15, 3, 1, "a"},
        {"2\nb 1 3f800000\na 0 (1,) abcd\n", ErrorCode::mixed_dialects, 15, 3, 1, "a"},
        {"a 1 3f800000\nb 1 3f800000\n", ErrorCode::no_tensor_count, 0, 1, 1, ""},
        {"", ErrorCode::no_tensor_count, 0, 1, 1, ""},
        // nvidia-v2.
        {"1\na 0 (2,) abcd", ErrorCode::truncated, 11, 0, 0, "a"},
        {"1\na 0 (2", ErrorCode::truncated, 8, 0, 0, ""},
        {"1\na 0 (1,) abcdefgh\n", ErrorCode::missing_newline, 15, 0, 0, "a"},
        {"2\na 2 (6,) abcd\nb 2 (1,) x\n", ErrorCode::missing_newline, 17, 0, 0, "a"},
        {"2\na 2 (1,) x\nb 2 2 xx\n", ErrorCode::bad_header, 13, 0, 0, ""},
        {"1\na 2 (1 2,) x\n", ErrorCode::bad_shape, 2, 0, 0, "a"},
        {"1\na 2 (,) x\n", ErrorCode::bad_shape, 2, 0, 0, "a"},
        {"1\na 2 (1,) x\nb 2 (1,) x\n", ErrorCode::wrong_tensor_count, 13, 0, 0, ""},
        {"2\na 2 (1,) x\n", ErrorCode::wrong_tensor_count, 13, 0, 0, ""},
    };
    return all;
}
} // namespace

TEST_CASE("every fault has its code and its place") {
    for (const Fault& expected : faults()) {
        const porter::Error error = fault(expected.bytes);
        INFO(expected.bytes.substr(0, 100) << "\n" << error.text());
        CHECK(porter::id(error.code) == porter::id(expected.code));
        CHECK(error.offset == expected.offset);
        CHECK(error.line == expected.line);
        CHECK(error.column == expected.column);
        CHECK(error.tensor == expected.tensor);
        CHECK_FALSE(error.message.empty());
        CHECK_FALSE(error.hint.empty());
        CHECK_THROWS_AS(parse(expected.bytes), porter::WtsError);
    }
}

TEST_CASE("files say the same as memory, and their path") {
    Folder folder;
    for (const Fault& expected : faults()) {
        const std::string path = folder.write("m.wts", expected.bytes);
        const porter::Error error = porter::try_load(path).error;
        CHECK(error.path == path);
        CHECK(error.code == expected.code);
        CHECK(error.offset == expected.offset);
    }
}

TEST_CASE("the text of an error") {
    const porter::Error error = fault("1\na 2 3f800000 3f8g0000\n");
    CHECK(error.text() == "error[W105]: 'g' is no hexadecimal digit\n  --> line 2, column 17, byte 18  tensor 'a'\n   = help: the file is "
                          "damaged, or the count is too large");
    CHECK(fault("1\n\x1b[2J 1 x\n").text().find('\x1b') == std::string::npos);
    CHECK(porter::Error{}.text() == "no error");
    try {
        (void)parse("1\na 2 3f800000 3f8g0000\n");
    } catch (const porter::WtsError& thrown) {
        CHECK(thrown.what() == error.text());
        const porter::WtsError copy = thrown; // NOLINT: what a handler does
        CHECK(copy.error().offset == 18);
    }
    CHECK(porter::id(ErrorCode::cannot_open) == "W001");
    CHECK(porter::id(ErrorCode::ok) == "W000");
}

TEST_CASE("float16 under type 0 says so") {
    CHECK(fault("1\na 0 (4,) \0\x3c\0\x3c\0\x3c\0\x3c\n"s).hint.find("correct the 0 to 1") != std::string::npos);
}

TEST_CASE("one line that may be cut is noted") {
    const porter::Weights weights = parse("1\na 0 2 3f800000 3f8");
    CHECK(weights.at("a").count() == 2);
    REQUIRE_FALSE(weights.notices().empty());
    CHECK(weights.notices()[0].find("fewer digits") != std::string::npos);
}

TEST_CASE("faults deep in a long line") {
    const std::size_t count = 700'000;
    std::string line;
    for (std::size_t i = 0; i < count; ++i) {
        line += i == 0 ? "3f80a000" : " 3f80a000";
    }
    const std::string head = "2\nw " + std::to_string(count) + " ", tail = "\nb 1 3f800000\n";
    for (const std::size_t at : {std::size_t{0}, std::size_t{5}, std::size_t{300'000}, count - 2}) {
        for (const int what : {0, 1, 2, 3}) {
            std::string bytes = line;
            std::size_t offset = head.size() + 9 * at;
            ErrorCode code = ErrorCode::stray_character;
            if (what == 0) {
                bytes[9 * at + 3] = '-';
                offset += 3;
            } else if (what == 1) {
                bytes[9 * at + 8] = '.';
                offset += 8;
            } else {
                code = ErrorCode::wrong_digits;
                what == 2 ? (void)bytes.erase(9 * at + 7, 1) : (void)(bytes[9 * at + 4] = '\n');
            }
            porter::Options options;
            options.threads = 1 + static_cast<unsigned>(what % 2);
            const porter::Error error = fault(head + bytes + tail, options);
            INFO(at << " " << what << " " << error.text());
            CHECK(error.code == code);
            CHECK(error.offset == offset);
            CHECK(error.line == 2);
            CHECK(error.column == offset - 1);
        }
    }
}

TEST_CASE("white space and words without end") {
    CHECK(fault("1\n" + std::string(1'000'000, ' ')).code == ErrorCode::wrong_tensor_count);
    CHECK(fault("1\n" + std::string(1'000'000, '\n')).line == 1'000'002);
    CHECK(fault("1\na 5" + std::string(1'000'000, ' ') + "3f800000\n").code == ErrorCode::bad_header);
    CHECK(fault("1\na 100000000 " + std::string(1'000'000, 'f')).code == ErrorCode::wrong_digits);
    CHECK(fault("1\n" + std::string(1'000'000, 'f')).code == ErrorCode::bad_header);
    const std::string zeros = "1\na 100000000 3f800000 " + std::string(10'000, '\0') + "\n";
    CHECK(fault(zeros).code == ErrorCode::stray_character);
    CHECK(fault(zeros).offset == zeros.find('\0'));
}

TEST_CASE("every truncation and every changed byte is read or refused") {
    const std::vector<std::string> whole = {
        "3\na.weight 3 3f800000 00000000 bf80000a\nb 0\nc 1 3f800000\n",
        "3\na.weight 0 3 3f800000 0 bf80000a \nb 1 2 3c00 1 \nc 3 1 ffffffff \n",
        "3\na.weight 0 (2, 1) abcd\nfgh\nb 1 (1,) ab\nc 2 () x\n",
    };
    for (const std::string& bytes : whole) {
        for (std::size_t length = 0; length <= bytes.find_last_not_of(" \n"); ++length) {
            INFO(bytes.substr(0, length));
            CHECK(fault(bytes.substr(0, length)).code != ErrorCode::ok);
        }
        std::set<ErrorCode> seen;
        for (std::size_t at = 0; at < bytes.size(); ++at) {
            for (int byte = 0; byte < 256; ++byte) {
                std::string changed = bytes;
                changed[at] = static_cast<char>(byte);
                seen.insert(fault(changed).code);
            }
        }
        CHECK(seen.size() > 6);
        CHECK(seen.count(ErrorCode::out_of_memory) == 0);
    }
}
