/// What is written is read again as it was, and what cannot be written leaves nothing behind.

#include "catch.hpp"
#include "wts_files.hpp"

#include <porter/wts/write.hpp>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iterator>

using namespace files;
using porter::Dialect;
using porter::DType;
using porter::ErrorCode;
using porter::Written;

namespace {
/// A folder that is gone when the test is, with all that is in it.
class Scratch {
public:
    Scratch() {
        std::string pattern = (std::filesystem::temp_directory_path() / "porter-test-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("no temporary folder");
        }
        folder_ = pattern;
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    std::string path(const std::string& name) const { return (folder_ / name).string(); }

    std::string write(const std::string& name, const std::string& text) const {
        std::ofstream(path(name), std::ios::binary) << text;
        return path(name);
    }

    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
            found.push_back(entry.path().filename().string());
        }
        std::sort(found.begin(), found.end());
        return found;
    }

private:
    std::filesystem::path folder_;
};

std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

const std::uint32_t floats[] = {0x3f800000, 0x80000000, 0x7fc00001, 0x00000001, 0xff800001, 0};
const std::uint16_t halves[] = {0x3c00, 0x7c01, 0x8000, 0x0001};
const std::int8_t bytes[] = {-128, 0, 127};
const std::int32_t integers[] = {-1, 16777216, 70000};

std::vector<Written> examples() {
    return {
        {"w", DType::float32, {2, 3}, floats},     {"h", DType::float16, {4}, halves},         {"b", DType::bfloat16, {2, 2}, halves},
        {"q", DType::int8, {3, 1}, bytes},         {"i", DType::int32, {3}, integers},         {"scalar", DType::float32, {}, floats},
        {"none", DType::float32, {0, 7}, nullptr}, {"\xc3\xa4/\xff", DType::int8, {1}, bytes},
    };
}

ErrorCode refused(const std::string& path, const std::vector<Written>& tensors, const porter::SaveOptions& options = {}) {
    try {
        porter::save(path, tensors, Dialect::tensorrtx, options);
    } catch (const porter::WtsError& error) {
        CHECK_FALSE(error.error().hint.empty());
        return error.error().code;
    }
    return ErrorCode::ok;
}
} // namespace

TEST_CASE("the bytes of each dialect") {
    const Scratch folder;
    const std::vector<Written> tensors = {
        {"a", DType::float32, {2, 1}, floats}, {"q", DType::int8, {}, bytes}, {"e", DType::int8, {0}, nullptr}};
    const auto written = [&](Dialect dialect) {
        porter::save(folder.path("m.wts"), tensors, dialect, {true});
        return content(folder.path("m.wts"));
    };
    CHECK(written(Dialect::tensorrtx) == "3\na 2 3f800000 80000000\nq 1 c3000000\ne 0\n");
    CHECK(written(Dialect::nvidia_v1) == "3\na 0 2 3f800000 80000000 \nq 2 1 80 \ne 2 0 \n");
    CHECK(written(Dialect::nvidia_v2) == "3\na 0 (2, 1) \0\0\x80\x3f\0\0\0\x80\nq 2 () \x80\ne 2 (0,) \n"s);
}

TEST_CASE("what is written comes back") {
    const Scratch folder;
    for (const Dialect dialect : {Dialect::tensorrtx, Dialect::nvidia_v1, Dialect::nvidia_v2}) {
        porter::save(folder.path("m.wts"), examples(), dialect, {true});
        const porter::Weights once = porter::load(folder.path("m.wts"));
        REQUIRE(once.size() == examples().size());
        CHECK(once.has_sidecar());
        CHECK(once.dialect() == dialect);
        for (const Written& tensor : examples()) {
            const porter::Tensor& back = once.at(tensor.name, tensor.shape);
            CHECK(back.original_dtype() == name_of(tensor.dtype));
            if (back.dtype() == tensor.dtype && back.count() != 0) {
                CHECK(std::memcmp(back.data(), tensor.data, back.nbytes()) == 0);
            }
        }
        // And so do the values of what was read, by way of each of the others.
        for (const Dialect other : {Dialect::tensorrtx, Dialect::nvidia_v1, Dialect::nvidia_v2}) {
            porter::save(folder.path("n.wts"), once, other, {true});
            porter::save(folder.path("o.wts"), porter::load(folder.path("n.wts")), Dialect::tensorrtx, {true});
            porter::save(folder.path("p.wts"), examples(), Dialect::tensorrtx, {true});
            CHECK(content(folder.path("o.wts")) == content(folder.path("p.wts")));
            CHECK(content(folder.path("o.wts.json")) == content(folder.path("p.wts.json")));
        }
    }
}

TEST_CASE("what was narrowed is written as it is now") {
    const Scratch folder;
    porter::save(folder.path("m.wts"), {{"w", DType::float32, {6}, floats}}, Dialect::tensorrtx);
    porter::Options options;
    options.narrow = porter::Narrow::bfloat16;
    porter::save(folder.path("n.wts"), porter::load(folder.path("m.wts"), options), Dialect::nvidia_v1);
    const porter::Weights back = porter::load(folder.path("n.wts"));
    CHECK(back.at("w").original_dtype() == "bfloat16");
    CHECK(bits(back.at("w")) == std::vector<std::uint32_t>{0x3f800000, 0x80000000, 0x7fc00000, 0, 0xffc00000, 0});
}

TEST_CASE("what cannot be written") {
    const Scratch folder;
    const std::string path = folder.path("m.wts");
    for (const std::string& name : {""s, "a b"s, "a\tb"s, "a\nb"s, "\x7f"s, "a\xc2\xa0"s, "\xe3\x80\x80"s, "\0"s, "\xc2\x85"s}) {
        CHECK(refused(path, {{name, DType::float32, {1}, floats}}) == ErrorCode::unwritable_name);
    }
    const std::int32_t odd = 16777217;
    CHECK(refused(path, {{"i", DType::int32, {1}, &odd}}) == ErrorCode::value_does_not_fit);
    CHECK(refused(path, {{"a", DType::float32, {-1}, floats}}) == ErrorCode::bad_shape);
    CHECK(refused(path, {{"a", DType::float32, {1}, nullptr}}) == ErrorCode::bad_shape);
    CHECK(refused(path, {{"a", DType::int8, {1}, bytes}, {"a", DType::int8, {1}, bytes}}) == ErrorCode::duplicate_name);
    CHECK(refused(folder.path("no folder/m.wts"), {}) == ErrorCode::cannot_write);
    CHECK(folder.names().empty());
}

TEST_CASE("what is there stays") {
    const Scratch folder;
    const std::string path = folder.write("m.wts", "mine");
    CHECK(refused(path, examples()) == ErrorCode::already_there);
    folder.write("m.wts.json", "{\"mine\": 1}");
    CHECK(refused(path, examples(), {true}) == ErrorCode::already_there);
    CHECK(content(path) == "mine");
    folder.write("m.wts.json", "damaged");
    CHECK(refused(path, examples(), {true}) == ErrorCode::ok);
    CHECK(porter::load(path).size() == examples().size());
    CHECK(folder.names() == std::vector<std::string>{"m.wts", "m.wts.json"});
}
